# One image with the three programs. Its RUN lines are run by a test as well
# (cmd/chartgate/image_test.go), since an engine is not always at hand.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN mkdir state
RUN go build -ldflags='-s -w' -o bin/ ./cmd/chartgate ./cmd/sidecar ./cmd/control

FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/bin/ /usr/local/bin/
# What must outlive the container: decisions on their way to the database, and
# the last known good release. Mount a volume there.
COPY --from=build --chown=65534:65534 /src/state/ /var/lib/chartgate/
ENV XDG_STATE_HOME=/var/lib
USER 65534:65534
CMD ["chartgate", "--help"]
