"""Load tests: a run of Locust on a stage, the evidence that it leaves behind, and the verdict."""
