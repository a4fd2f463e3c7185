"""API Gateway: validation, templates, gateway responses, access logs, the integration's role."""
