# What AWS Batch and ECS run for Sluice: one job, then the container ends. docs/containers.md says how to build it,
# where to push it and how to set it. Everything is pinned: the base image by digest, the packages by hash.

# The index of all platforms, linux/arm64 among them; renew tag and digest together.
FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base

FROM base AS build
COPY requirements/container.txt /build/
# Wheels only, so that no package runs code of its own here.
RUN python -m pip install --require-hashes --no-deps --only-binary :all: --no-compile --no-cache-dir \
    --disable-pip-version-check --root-user-action ignore --target /opt/sluice --requirement /build/container.txt
# Plain Python: it needs no building, and so no build tools, which would be pinned by nothing.
COPY packages/core/src/ /opt/sluice/
# The root filesystem may be read-only, and each job is a cold start. The bytecode goes by the sources' contents, as
# their times are others in each checkout.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sluice

FROM base
COPY --from=build /opt/sluice/ /opt/sluice/
ENV PYTHONPATH=/opt/sluice \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
# A number needs no entry in /etc/passwd, and says to whoever runs it that it is not root's.
USER 65532:65532
# A list, not a line for a shell: it is process 1, and SIGTERM arrives. No ENTRYPOINT, to which the command in a
# definition would be arguments.
CMD ["python", "-m", "sluice_core.run_job"]
