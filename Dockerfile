# docker build -t tenantry .                              the server; its PostgreSQL is elsewhere (TENANTRY__DATABASE__URL)
# docker build -t tenantry:all-in-one --target all-in-one .   with a private PostgreSQL in the volume: to try it, or for one machine

FROM node:22-bookworm-slim AS console
WORKDIR /console
COPY console/.npmrc console/package.json console/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY console ./
RUN node build.mjs

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
COPY --from=console /console/dist console/dist
RUN cargo build --release --locked --bin tenantry

FROM debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/tenantry --create-home --shell /usr/sbin/nologin tenantry
COPY --from=build /src/target/release/tenantry /usr/local/bin/tenantry
COPY LICENSE /usr/share/doc/tenantry/LICENSE
ENV TENANTRY__SERVER__LISTEN=0.0.0.0:8080 \
    TENANTRY__DATA__DIR=/var/lib/tenantry
WORKDIR /var/lib/tenantry
VOLUME /var/lib/tenantry
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["tenantry", "healthcheck"]

FROM base AS all-in-one
# tini reaps what PostgreSQL leaves behind: it refuses to start while its former process is a zombie.
RUN apt-get update \
 && apt-get install -y --no-install-recommends postgresql-common tini \
 && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
 && apt-get install -y --no-install-recommends postgresql-15 \
 && rm -rf /var/lib/apt/lists/*
USER tenantry
ENTRYPOINT ["tini", "--", "tenantry"]
CMD ["serve"]

# The last stage is the default.
FROM base AS tenantry
USER tenantry
ENTRYPOINT ["tenantry"]
CMD ["serve"]
