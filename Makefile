# make run     everything in one process, with a demo practice: the quickest way to an answer
# make test    all tests
# make ci      all tests and gates, as .ci/run does before a change lands
# make build   the binaries, in bin/
# What is missing on a Debian machine is installed first (.ci/setup); set
# DATABASE_URL and REDIS_URL to use servers of your own instead.
# Flags for run: make run ARGS="--sidecar-addr 127.0.0.1:9181"

.PHONY: run test ci build clean

run:
	@.ci/setup run
	@echo "building (the first time this takes a minute or two)"
	@go build -o bin/ ./cmd/chartgate
	@exec bin/chartgate run $(ARGS)

test:
	@.ci/setup test
	go test ./...

ci:
	@.ci/run

build:
	go build -o bin/ ./cmd/...

clean:
	rm -rf bin
