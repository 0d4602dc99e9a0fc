# The image of a CI job: a shell, git and the program. images/build makes the context.
ARG BASE=debian:stable-slim
FROM ${BASE}
# Programs that note the time of day know it.
ARG SOURCE_DATE_EPOCH
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends ca-certificates git openssh-client >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/log/* \
 && useradd --create-home --user-group --uid 1000 --shell /bin/bash ci
ARG TARGETOS TARGETARCH
COPY --chmod=755 ${TARGETOS}-${TARGETARCH}/ocibuild /usr/local/bin/
CMD ["bash"]
