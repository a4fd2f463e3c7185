"""The local stage and the tools that drive a stage: what runs here is the template that runs in AWS."""
