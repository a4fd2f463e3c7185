"""IAM: what a request counts as when its policies are evaluated."""
