# The image of faust-anomaly: docs/deployment.md#image says how to build, check and run it.
#
# The base has an exact tag. To pin its bytes as well, append the digest that this prints, to both FROM lines' ARG:
#   docker buildx imagetools inspect python:3.13.16-slim-trixie --format '{{.Manifest.Digest}}'
ARG BASE=python:3.13.16-slim-trixie

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY deploy/build.lock deploy/requirements.lock deploy/
# Every file is compared with its hash in the lock. What has no wheel for this processor (faust-streaming on ARM64) is
# built from its sources, without a compiler as plain Python, by tools that are locked too.
RUN pip install --require-hashes --no-deps --only-binary :all: -r deploy/build.lock \
    && pip wheel --require-hashes --no-deps --no-build-isolation --wheel-dir wheels -r deploy/requirements.lock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY app app
COPY agents agents
COPY tables tables
COPY generators generators
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m venv --without-pip /opt/faust-anomaly \
    && pip --python /opt/faust-anomaly/bin/python install --no-index --no-deps wheels/*.whl
# Compiled for every processor of this architecture: as fast as for this one, and its results have the same bits.
ENV NUMBA_CPU_NAME=generic
RUN /opt/faust-anomaly/bin/faust-anomaly compile --into /opt/faust-anomaly/compiled

FROM ${BASE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="faust-anomaly" \
      org.opencontainers.image.description="Scores every point of many time series as it arrives in Kafka" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
# Nothing here may gain rights, and nothing can be installed later.
RUN groupadd --gid 65532 faust-anomaly \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /var/lib/faust-anomaly --shell /usr/sbin/nologin \
        faust-anomaly \
    && install -d -o 65532 -g 65532 -m 0750 /var/lib/faust-anomaly /var/cache/faust-anomaly \
    && install -d /etc/faust-anomaly \
    && python -m pip uninstall --yes --root-user-action ignore pip \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# It belongs to root: what runs as 65532 cannot change what is run.
COPY --from=build /opt/faust-anomaly /opt/faust-anomaly
ENV PATH=/opt/faust-anomaly/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FAUST_ANOMALY_COMPILED=/opt/faust-anomaly/compiled \
    FAUST_ANOMALY_CACHE=/var/cache/faust-anomaly \
    NUMBA_CPU_NAME=generic \
    XDG_STATE_HOME=/var/lib
USER 65532:65532
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["faust-anomaly", "probe", "live"]
ENTRYPOINT ["faust-anomaly"]
CMD ["worker"]
