# make run     everything in one process, with a demo practice: the quickest way to an answer
# make test    all tests
# make ci      all tests and gates, as .ci/run does before a change lands
# make build   the binaries, in bin/
# make soak    promise P2 under faults, over 100,000 acknowledged revokes: takes an hour or so
# What is missing on a Debian machine is installed first (.ci/setup); set
# DATABASE_URL and REDIS_URL to use servers of your own instead.
# Flags for run: make run ARGS="--sidecar-addr 127.0.0.1:9181"

.PHONY: run test ci build soak clean

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

soak:
	@.ci/setup test
	CHARTGATE_SOAK_REVOKES=100000 CHARTGATE_SOAK_REVOKERS=500 go test ./cmd/internal/soak -run TestARevokeIsARevoke -timeout 4h -v

clean:
	rm -rf bin
