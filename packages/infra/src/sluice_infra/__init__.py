"""The CDK app: one definition for AWS and for the local stage."""
