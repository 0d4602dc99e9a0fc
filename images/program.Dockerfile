# The program and the certificate authorities it trusts, and nothing else. images/build makes the context.
FROM scratch
ARG TARGETOS TARGETARCH
COPY ca-certificates.crt /etc/ssl/certs/
COPY --chmod=755 ${TARGETOS}-${TARGETARCH}/ocibuild /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/ocibuild"]
