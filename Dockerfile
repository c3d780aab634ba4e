# The image of exfilwatch: the program, the C library it needs and certificates; no shell, no package
# manager. Built by any engine that knows multi-stage files:
#
#   podman build --build-arg BASE=<image> --tag exfilwatch .
#
# BASE has no default, because there is no registry that is yours: Debian or the like with a C
# compiler, make, perl, ca-certificates and the Rust that rust-toolchain.toml names. What is linked
# against its C library is copied from it, which must be glibc 2.34 or later (Debian 12): before that,
# what asks a DNS is a library of its own, which is not copied.
ARG BASE
FROM ${BASE} AS build
WORKDIR /src
# `release`, or `dev` for a quick look.
ARG PROFILE=release

# Dependencies alone, on sources that do nothing: this layer is kept until they change.
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
RUN mkdir -p src benches \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && sed -n '/^\[\[bench/,/^name/s/^name = "\(.*\)"/\1/p' Cargo.toml >/tmp/benches \
    && while read -r bench; do cp src/main.rs "benches/$bench.rs"; done </tmp/benches \
    && cargo build --locked --profile "$PROFILE" --bin exfilwatch

COPY schemas schemas
COPY src src
# Of the sources, for /buildinfo and exfilwatch_build_info.
ARG REVISION=unknown
# Copied files may be older than what was built of the empty ones.
RUN touch src/lib.rs src/main.rs \
    && EXFILWATCH_REVISION="$REVISION" \
    cargo build --locked --profile "$PROFILE" --bin exfilwatch
RUN folder=$PROFILE \
    && if [ "$folder" = dev ]; then folder=debug; fi \
    && install -D "${CARGO_TARGET_DIR:-target}/$folder/exfilwatch" /root-fs/usr/bin/exfilwatch \
    && strip /root-fs/usr/bin/exfilwatch \
    && ldd /root-fs/usr/bin/exfilwatch >/tmp/linked \
    && grep -o '/[^ ]*' /tmp/linked >/tmp/libraries \
    && while read -r library; do install -D "$library" "/root-fs$library"; done </tmp/libraries \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt \
    /root-fs/etc/ssl/certs/ca-certificates.crt \
    && echo 'exfilwatch:x:10001:10001::/:/usr/bin/exfilwatch' >/root-fs/etc/passwd \
    && echo 'exfilwatch:x:10001:' >/root-fs/etc/group

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="exfilwatch" \
    org.opencontainers.image.description="Streaming data-exfiltration detector on Kafka" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /root-fs/ /
COPY LICENSE /usr/share/doc/exfilwatch/LICENSE
USER 10001:10001
EXPOSE 9464
ENTRYPOINT ["/usr/bin/exfilwatch"]
CMD ["--help"]
