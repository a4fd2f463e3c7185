"""The package: a stage as one CloudFormation template, zips and a script, for those who do not use the CDK."""
