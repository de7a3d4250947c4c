# Pelton's image: one binary on a base without a shell, as user 65532, on a root that may be read-only.
# `./dev image` builds it. Both bases are arguments, so that it can also be built where no registry can be reached
# (docker/local-bases.sh makes stand-ins). There is no "# syntax=" line: it would have to be pulled.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS chef
ARG CARGO_CHEF=0.1.78
RUN cargo install cargo-chef --version ${CARGO_CHEF} --locked --quiet
WORKDIR /src

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

# Dependencies are a layer of their own: it is made anew when Cargo.lock changes, and not when our sources do.
FROM chef AS build
# The runtime base has OpenSSL and no zlib.
ENV LIBZ_SYS_STATIC=1 CARGO_INCREMENTAL=0
COPY --from=plan /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --package pelton --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --package pelton --bin pelton \
 && install -D --strip target/release/pelton /out/usr/local/bin/pelton \
 && install -d /out/etc/pelton /cache/pelton

# The last stage is also built alone, around a binary that is there already: see `./dev image --binary`.
FROM ${RUNTIME_IMAGE} AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Pelton" \
      org.opencontainers.image.description="Exactly-once stream processor for Kafka with sandboxed WebAssembly transforms" \
      org.opencontainers.image.source="https://github.com/pelton-stream/pelton" \
      org.opencontainers.image.documentation="https://github.com/pelton-stream/pelton/blob/main/docs/guide/kubernetes.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
# Compiled modules. A volume, so that it can be written where the root cannot; it belongs to the user below (which is
# true of what is copied, and not of the directory that it is copied to).
COPY --from=build --chown=65532:65532 /cache/ /var/cache/
VOLUME /var/cache/pelton
USER 65532:65532
EXPOSE 9640
STOPSIGNAL SIGTERM
# Whether the process runs, whatever Kafka does: some restart what is unhealthy. Where only somebody looks at it,
# `pelton health` says whether it is ready (compose.yaml). It finds the admin server as it is in /etc/pelton/config.yaml,
# or in the file of PELTON_CONFIG, or in PELTON__ADMIN__LISTEN.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["/usr/local/bin/pelton", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/pelton"]
CMD ["run", "-c", "/etc/pelton/config.yaml"]
