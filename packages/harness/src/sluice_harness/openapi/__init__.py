"""``docs/openapi.yaml``, made of core's own tables and of the API that infra synthesizes."""
