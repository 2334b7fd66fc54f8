# The service, its command `unipay` and the sandbox, in one image:  docker build -t unipay-sync .
# Nothing is downloaded but the packages that package-lock.json pins by checksum; no package's own script is ever run.

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json prisma.config.ts ./
COPY prisma ./prisma
COPY scripts/build.mjs ./scripts/
COPY src ./src
RUN npm run -s build && find dist -name '*.map' -delete

# Without the optional dependencies there is no embedded PostgreSQL: in production the database is your own. The code of the
# packages is in dist/; what stays here is what is served to browsers, each package's name and version for whoever looks for
# known holes, and its licence.
FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --omit=dev --omit=optional --no-audit --no-fund \
  && find node_modules -type f \
    ! -path '*/htmx.org/dist/htmx.min.js' ! -path '*/htmx.org/dist/ext/hx-sse.min.js' \
    ! -path '*/uplot/dist/uPlot.iife.min.js' ! -path '*/uplot/dist/uPlot.min.css' \
    ! -name package.json ! -iname 'licen[cs]e*' ! -iname 'copying*' ! -iname 'notice*' -delete \
  && find node_modules -type l -delete && find node_modules -depth -type d -empty -delete

FROM node:24-bookworm-slim
ENV NODE_ENV=production
# Bounds of memory in MiB, the heap's as for `npm start`: docs/performance.md. What is new: this Node's own limit, 64, takes 40 MB more and
# saves 3 % of CPU at most. What stays: where there is a large machine's room, this Node collects it so late that the
# service takes 70 MB more under load. It holds some 60. Outside the heap: two pools of glibc's for what threads allocate, not
# eight for each core, take 15 MB less.
ENV NODE_OPTIONS="--max-semi-space-size=32 --max-old-space-size=512" MALLOC_ARENA_MAX=2
WORKDIR /app
# Root owns what the process runs, so that the process cannot change it. /data is its one place to write, and only the
# sandbox uses it: the service itself runs on a read-only root file system.
RUN ln -s /app/dist/cli.js /usr/local/bin/unipay && install -d -o node -g node -m 700 /data
COPY package.json ./
COPY prisma/migrations ./prisma/migrations
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build --chmod=755 /app/dist ./dist
USER node
ENV DATA_DIR=/data
EXPOSE 9000
# The process answers. Whether it should get requests is /readyz, which is the load balancer's to ask.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 9000}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# node itself is process 1: it starts no children, and it answers SIGTERM from the first moment.
CMD ["node", "dist/main.js"]
