# Two images from one build: --target controller and --target agent (hack/image.sh builds both). Each holds one static
# binary on an empty base: no shell, no package manager, nothing to update but Mooring itself.
#
# The compiler runs on the builder's own architecture and cross-compiles, so no emulation is needed.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What hack/version.sh says outside, where the history is.
ARG VERSION
ARG COMMIT
ARG TREE_STATE
ARG BUILD_DATE
ARG TARGETOS
ARG TARGETARCH
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH OUT=/out hack/build.sh mooring-cloud-controller-manager mooring-agent

# What both images say of themselves, in the words of the OCI image specification.
FROM scratch AS labelled
ARG VERSION
ARG COMMIT
ARG BUILD_DATE
LABEL org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT \
      org.opencontainers.image.created=$BUILD_DATE \
      org.opencontainers.image.source=https://github.com/mooring-lb/mooring \
      org.opencontainers.image.licenses=Apache-2.0

# Outgoing TLS: Hetzner's API and the updaters of external load balancers.
FROM labelled AS controller
LABEL org.opencontainers.image.title=mooring-cloud-controller-manager
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/mooring-cloud-controller-manager /mooring-cloud-controller-manager
USER 65532:65532
ENTRYPOINT ["/mooring-cloud-controller-manager"]

# Root, because capabilities of a container are given to root alone; the DaemonSet drops all but two of them.
FROM labelled AS agent
LABEL org.opencontainers.image.title=mooring-agent
COPY --from=build /out/mooring-agent /mooring-agent
USER 0:0
ENTRYPOINT ["/mooring-agent"]
