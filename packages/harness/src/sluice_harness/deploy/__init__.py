"""Stages in an account, or on the local engine as in one: deployed, compared and destroyed by the CDK CLI."""
