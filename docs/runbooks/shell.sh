# The shell of the runbooks, for bash and zsh, from the repository's root:  . docs/runbooks/shell.sh STAGE
# Needs the AWS CLI; for a stage in AWS also its account's credentials (AWS_PROFILE), and its region (AWS_REGION) if
# there is no build/stages/STAGE.json to tell it. Nothing here changes anything.

STAGE=${1:?say which stage, for instance prod}

# What a local stage has set here before would go before the account's own.
[ -z "${AWS_ENDPOINT_URL:-}" ] ||
  unset AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION AWS_DEFAULT_REGION

# Its stacks go by its own name, not by the file's: tests have local stages in files of other names.
told=$(python3 -c 'import json, sys; told = json.load(open(sys.argv[1]))
print(told["stage"], told["region"], told["endpointUrl"] or "")' "build/stages/$STAGE.json" 2>/dev/null) || told=
read -r name region url <<<"$told"
NAMED=sluice-${name:-$STAGE}
[ -z "$url" ] || export AWS_ENDPOINT_URL=$url AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

# Version 1 of the CLI reads the second alone; version 2 prefers the first.
region=${region:-${AWS_REGION:-${AWS_DEFAULT_REGION:-}}}
[ -z "$region" ] || export AWS_REGION=$region AWS_DEFAULT_REGION=$region
export AWS_PAGER=

# out KEY [STACK]: an output of a stack (ingestion, auth or observability), for instance `out WorkQueueUrl`.
out() {
  aws cloudformation describe-stacks --stack-name "$NAMED-${2:-ingestion}" \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue" --output text
}

# firing: the alarms that fire, and since when.
firing() {
  aws cloudwatch describe-alarms --alarm-name-prefix "$NAMED-" --state-value ALARM \
    --alarm-types MetricAlarm CompositeAlarm --output table \
    --query '[MetricAlarms, CompositeAlarms][].[StateUpdatedTimestamp, AlarmName, StateReason]'
}

# history_of ALARM: what an alarm did lately, for instance `history_of api-5xx`.
history_of() {
  aws cloudwatch describe-alarm-history --alarm-name "$NAMED-$1" --history-item-type StateUpdate --max-items 20 \
    --query 'AlarmHistoryItems[].[Timestamp, HistorySummary]' --output table
}

# depth: how many messages each queue has.
depth() {
  aws cloudformation describe-stacks --stack-name "$NAMED-ingestion" --output text \
    --query "Stacks[0].Outputs[?ends_with(OutputKey, 'QueueUrl') || ends_with(OutputKey, 'DlqUrl')]
      .[OutputKey, OutputValue]" |
  while read -r one url; do
    printf '%-22s ' "$one"
    aws sqs get-queue-attributes --queue-url "$url" --output text \
      ${AWS_ENDPOINT_URL:+--endpoint-url=$AWS_ENDPOINT_URL} \
      --attribute-names ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible \
      --query "[join('', ['visible=', Attributes.ApproximateNumberOfMessages]),
        join('', ['in flight=', Attributes.ApproximateNumberOfMessagesNotVisible])]"
  done
}

# mappings FUNCTION: what feeds a function, for instance `mappings BatchSimulatorFunction`. It feeds the alias.
mappings() {
  aws lambda list-event-source-mappings --function-name "$(out "$1"):live" --output table \
    --query 'EventSourceMappings[].[UUID, State, ScalingConfig.MaximumConcurrency, LastProcessingResult]'
}

# insights GROUPS HOURS TEXT: a Logs Insights query, and its answer once there is one.
insights() {
  id=$(aws logs start-query --log-group-names $(echo "$1") --query-string "$3" --query queryId --output text \
    --start-time $(($(date +%s) - 3600 * $2)) --end-time "$(date +%s)") || return
  while case $(aws logs get-query-results --query-id "$id" --query status --output text) in
    Scheduled | Running) true ;;
    *) false ;;
  esac; do
    sleep 1
  done
  aws logs get-query-results --query-id "$id" --output text \
    --query "results[*][?field!='@ptr'].join('=', [field, value])"
}

# saved NAME [HOURS [JOB_ID]]: a saved query on the functions' logs, for instance `saved failed-attempts 3`.
saved() {
  text=$(aws logs describe-query-definitions --query-definition-name-prefix "$NAMED/$1" \
    --query 'queryDefinitions[0].queryString' --output text)
  groups=$(aws logs describe-query-definitions --query-definition-name-prefix "$NAMED/$1" \
    --query 'queryDefinitions[0].logGroupNames' --output text)
  insights "$groups" "${2:-1}" "${text//JOB_ID/${3:-JOB_ID}}"
}

# log_of FUNCTION: the log group of a function, for instance `log_of CompletionFunction`.
log_of() {
  aws lambda get-function-configuration --function-name "$(out "$1")" --qualifier live \
    --query LoggingConfig.LogGroup --output text
}

# crashes FUNCTION [HOURS]: what Lambda itself says of failed invocations, for instance `crashes ProcessorFunction`.
crashes() {
  insights "$(log_of "$1")" "${2:-1}" 'filter @message like /"status": ?"(error|failure|timeout)"|Runtime exited|errorType|Traceback/
    | fields @timestamp, @message | sort @timestamp desc | limit 20'
}

# access FILTER [HOURS [BY]]: the API's access log, counted, for instance `access 'status like /^4/' 3 'owner, ip'`.
access() {
  groups=$(aws logs describe-log-groups --output text \
    --query "logGroups[?contains(logGroupName, '$NAMED-ingestion') && contains(logGroupName, 'AccessLog')].logGroupName")
  insights "$groups" "${2:-1}" "filter $1
    | stats count(*) as calls, max(latencyMs) as longestMs by ${3:-status, resource, error, integrationStatus}
    | sort calls desc"
}
