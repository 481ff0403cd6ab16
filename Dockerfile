# reanchor with git, for a CronJob, a Deployment or CI: docs/runner.md. It runs as a user without rights, from a root that may be read-only.
FROM node:22-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc tsconfig.json tsconfig.build.json ./
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build && npm pack --ignore-scripts && mkdir /app && npm install --global --ignore-scripts --prefix /app reanchor-*.tgz

FROM node:22-bookworm-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends git openssh-client ca-certificates \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --uid 10001 --no-create-home --home-dir /work --shell /usr/sbin/nologin reanchor \
  && mkdir /work \
  && chown 10001:10001 /work
COPY --from=build /app /usr/local
COPY --chmod=755 action/askpass.sh /usr/local/bin/reanchor-askpass
# In CI the checkout often belongs to another user, and git would not trust it.
RUN git config --system --add safe.directory '*'
USER 10001:10001
WORKDIR /work
ENV GIT_ASKPASS=/usr/local/bin/reanchor-askpass NODE_ENV=production
ENTRYPOINT ["reanchor"]
