#!/usr/bin/env bash
# Deploys Sluice from this folder with the AWS CLI: no CDK, no Python, no Node. README.md says more.
set -Eeuo pipefail
trap '((BASH_SUBSHELL)) || echo "error: what is said above went wrong; mend it and run this again" >&2' ERR

usage() {
  cat <<'END'
Deploys a stage of Sluice, brings it to what this package has, or deletes it.

  ./deploy.sh --stage NAME [options]
  ./deploy.sh --stage NAME --delete

  --stage NAME           1 to 20 lower-case letters, digits and hyphens; stages live side by side
  --set PARAMETER=VALUE  a parameter of the template, as often as needed: --set AlarmEmail=ann@example.com
                         What is not set keeps the value it has, or at first its default.
  --bucket NAME          a bucket of your own for the functions' code; without one, sluice-code-ACCOUNT-REGION is
                         made, and set up at each run
  --outputs FILE         where to write what was deployed, as JSON (default: sluice-NAME.json)
  --delete               delete the stage and that file; what it holds stays, and how to delete that is printed
  --yes                  do not ask
  --help                 this text

Credentials and region are those of the AWS CLI: AWS_PROFILE and AWS_REGION, or `aws configure`.
END
}

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

main() {
  stage='' bucket='' outputs='' yes=false delete=false settings=()
  while (($#)); do
    case $1 in
      --stage | --bucket | --outputs | --set)
        if (($# < 2)); then fail "$1 wants a value; see --help"; fi
        case $1 in
          --stage) stage=$2 ;;
          --bucket) bucket=$2 ;;
          --outputs) outputs=$2 ;;
          --set) settings+=("$2") ;;
        esac
        shift 2
        ;;
      --delete) delete=true && shift ;;
      --yes) yes=true && shift ;;
      --help) usage && exit ;;
      *) fail "$1 is not known; see --help" ;;
    esac
  done
  if ! [[ $stage =~ ^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$ ]]; then
    fail "--stage wants 1 to 20 lower-case letters, digits and hyphens, a letter first, no hyphen last"
  fi
  folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  stack=sluice-$stage status=''
  outputs=${outputs:-$stack.json}
  check_settings
  errors=$(mktemp) && trap 'rm -f "$errors"' EXIT
  check_aws
  find_stack
  if [[ $delete == true ]]; then delete_stage; else deploy_stage; fi
}

# `aws cloudformation deploy` passes over a name that the template does not have, and of two values takes the last.
check_settings() {
  local known setting name
  known=$(awk '/^[^ ]/ { inside = $0 == "Parameters:" } inside && /^  [A-Za-z0-9]+:$/' "$folder/template.yaml" |
    tr -d ' :' | grep -vx -e StageName -e CodeBucket)
  for setting in ${settings[@]+"${settings[@]}"}; do
    name=${setting%%=*}
    case $setting in
      StageName=*) fail "--set StageName: a stage is named with --stage" ;;
      CodeBucket=*) fail "--set CodeBucket: the bucket is named with --bucket" ;;
      *=*) grep -qxF -e "$name" <<<"$known" || fail "--set $name: no parameter; there are ${known//$'\n'/, }" ;;
      *) fail "--set wants PARAMETER=VALUE and not $setting; see --help" ;;
    esac
  done
}

# What the CLI warns of would be read as part of its answer.
ask() {
  aws "$@" --output text 2>"$errors"
}

last_words() {
  grep . "$errors" | tail -n 1
}

check_aws() {
  command -v aws >/dev/null || fail "the AWS CLI is not there; install it: https://aws.amazon.com/cli/"
  local region identity arn
  region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
  if [[ -z $region ]]; then fail "no region; name one: AWS_REGION=eu-central-1 ./deploy.sh --stage $stage"; fi
  # Version 1 of the CLI reads the second alone, and version 2 would open a pager.
  export AWS_REGION=$region AWS_DEFAULT_REGION=$region AWS_PAGER=
  if ! identity=$(ask sts get-caller-identity --query '[Account, Arn]'); then
    fail "AWS does not answer you in $region ($(last_words)); sign in: aws sso login, or see AWS_REGION"
  fi
  read -r account arn <<<"$identity"
  partition=$(cut -d: -f2 <<<"$arn")
}

# A stack of this name may be another's: the CDK app has a sluice-pipeline and a sluice-prod-observability.
find_stack() {
  local found owner
  if ! found=$(ask cloudformation describe-stacks --stack-name "$stack" --query \
    "Stacks[0].[StackStatus, Parameters[?ParameterKey=='StageName'].ParameterValue | [0]]"); then
    grep -q 'does not exist' "$errors" || fail "the stack $stack cannot be looked up: $(last_words)"
    return
  fi
  read -r status owner <<<"$found"
  # After a first change set that was refused there is a stack with nothing in it, which need not have parameters.
  if [[ $owner != "$stage" && "$status $owner" != "REVIEW_IN_PROGRESS None" ]]; then
    fail "the stack $stack is there and is no stage of this package; name the stage otherwise"
  fi
}

# Whether AWS is played by a program on this machine.
is_local() {
  [[ ${AWS_ENDPOINT_URL:-} =~ ^https?://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?/?$ ]]
}

deploy_stage() {
  echo "$stage: to be deployed to account $account, region $AWS_REGION, as the stack $stack"
  if is_local; then
    confirm "Deploy $stage to $AWS_ENDPOINT_URL, on this machine?"
  elif [[ $(<"$folder/VERSION") == *host ]]; then
    fail "this package is for a local stage (VERSION); one for AWS: uvx nox -s package"
  else
    confirm "Deploy $stage? It costs money from then on"
  fi
  if [[ -z $bucket ]]; then
    bucket=sluice-code-$account-$AWS_REGION
    make_bucket
  fi
  local last=''
  if [[ -n $status ]]; then
    last=$(ask cloudformation describe-stack-events --stack-name "$stack" --no-paginate \
      --query 'StackEvents[0].EventId') || true
  fi
  for file in "$folder"/functions/*.zip; do upload "$file" "functions/$(basename "$file")"; done
  aws cloudformation deploy --stack-name "$stack" --template-file "$folder/template.yaml" \
    --s3-bucket "$bucket" --s3-prefix templates --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \
    --tags project=sluice "stage=$stage" \
    --parameter-overrides "StageName=$stage" "CodeBucket=$bucket" ${settings[@]+"${settings[@]}"} ||
    explain "$last"
  write_outputs
}

# Whoever made the bucket before us would get our code, or give us theirs: it has to be our account's. It is closed
# each time: a run that was broken off may have left it open.
make_bucket() {
  local owned=(--bucket "$bucket" --expected-bucket-owner "$account") place=() arn=arn:$partition:s3:::$bucket
  if ! aws s3api head-bucket "${owned[@]}" >/dev/null 2>&1; then
    echo "making the bucket $bucket: private, encrypted, for TLS only"
    if [[ $AWS_REGION != us-east-1 ]]; then # where it must not be said
      place=(--create-bucket-configuration "LocationConstraint=$AWS_REGION")
    fi
    aws s3api create-bucket --bucket "$bucket" ${place[@]+"${place[@]}"} >/dev/null ||
      fail "the bucket $bucket cannot be made; name one of your own in $AWS_REGION with --bucket"
  fi
  aws s3api put-public-access-block "${owned[@]}" --public-access-block-configuration \
    BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true
  aws s3api put-bucket-encryption "${owned[@]}" --server-side-encryption-configuration \
    '{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}'
  aws s3api put-bucket-policy "${owned[@]}" --policy "{
    \"Version\": \"2012-10-17\",
    \"Statement\": [{
      \"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"s3:*\", \"Resource\": [\"$arn\", \"$arn/*\"],
      \"Condition\": {\"Bool\": {\"aws:SecureTransport\": \"false\"}}
    }]
  }"
}

# A file that is there already under this name is the same: the name is its digest.
upload() {
  local object=(--bucket "$bucket" --key "$2" --expected-bucket-owner "$account")
  if aws s3api head-object "${object[@]}" >/dev/null 2>&1; then return; fi
  echo "uploading $2 to $bucket"
  aws s3api put-object "${object[@]}" --body "$1" >/dev/null
}

# Says what failed after the event $1, the cause first. CloudFormation tells the newest first, and those of former
# runs, too; what was broken off because of another is no cause. Why a change set was refused, the CLI has said.
explain() {
  local causes
  causes=$(ask cloudformation describe-stack-events --stack-name "$stack" \
    --query 'StackEvents[].[EventId, LogicalResourceId, ResourceStatus, ResourceStatusReason]' |
    awk -F '\t' -v last="$1" '
      $1 == last { former = 1 }
      !former && $3 ~ /FAILED$/ && $4 !~ /^Resource (creation|update) cancelled/ { told[++n] = $2 ": " $4 }
      END { for (i = n; i > 0 && i > n - 5; i--) print told[i] }') || true
  if [[ -z $causes ]]; then fail "$stack was not deployed; mend what is said above and run this again"; fi
  printf '%s\n' "$causes" >&2
  fail "$stack was not deployed, and CloudFormation takes back what it began. Mend what is said above and run this
  again; a stack that was never there as a whole (ROLLBACK_COMPLETE) has to be deleted first: --delete"
}

heading() {
  printf '{\n  "Stage": "%s",\n  "Account": "%s",\n  "Region": "%s",\n' "$stage" "$account" "$AWS_REGION"
}

write_outputs() {
  local told name value comma=''
  told=$(aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query 'sort_by(Stacks[0].Outputs, &OutputKey)[].[OutputKey, OutputValue]')
  if is_local; then # where the host that CloudFormation names is not: ApiId comes before ApiUrl
    told=$(awk -F '\t' -v OFS='\t' -v apis="${AWS_ENDPOINT_URL%/}/restapis" -v stage="$stage" '
      $1 == "ApiId" { id = $2 }
      $1 == "ApiUrl" { $2 = apis "/" id "/" stage "/_user_request_/" }
      { print }' <<<"$told")
  fi
  printf '%s\n' "$told"
  {
    heading
    while IFS=$'\t' read -r name value; do
      printf '%s  "%s": "%s"' "$comma" "$name" "$value"
      comma=$',\n'
    done <<<"$told"
    printf '\n}\n'
  } >"$outputs"
  echo "written to $outputs"
}

delete_stage() {
  if [[ -z $status ]]; then fail "there is no stage $stage in account $account, region $AWS_REGION"; fi
  local held
  held=$(aws cloudformation list-stack-resources --stack-name "$stack" --output text \
    --query 'StackResourceSummaries[].[ResourceType, PhysicalResourceId]')
  echo "$stage: to be deleted from account $account, region $AWS_REGION"
  confirm "Delete $stage? Its jobs, results and users stay"
  aws cloudformation delete-stack --stack-name "$stack"
  aws cloudformation wait stack-delete-complete --stack-name "$stack"
  # A file of the same name may tell of another account's stage.
  if [[ $(head -n 4 "$outputs" 2>/dev/null) == "$(heading)" ]]; then rm "$outputs"; fi
  echo "$stack is gone. To delete what it held, for good:"
  while IFS=$'\t' read -r type id; do
    case $type in
      AWS::DynamoDB::Table)
        echo "  aws dynamodb update-table --table-name $id --no-deletion-protection-enabled"
        echo "  aws dynamodb delete-table --table-name $id"
        ;;
      AWS::S3::Bucket) echo "  aws s3 rb --force s3://$id" ;;
      AWS::Cognito::UserPool)
        echo "  aws cognito-idp update-user-pool --user-pool-id $id --deletion-protection INACTIVE"
        echo "  aws cognito-idp delete-user-pool --user-pool-id $id"
        ;;
    esac
  done <<<"$held"
}

confirm() {
  if [[ $yes == true ]]; then return; fi
  if ! [[ -t 0 ]]; then fail "nobody can be asked here: run it in a terminal, or with --yes"; fi
  local answer
  read -r -p "$1 [y/N] " answer
  if [[ $answer != [yY]* ]]; then fail "nothing was changed"; fi
}

main "$@"
