package embedded_test

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"chartgate/internal/embedded"
)

func connect(t *testing.T, address string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	return client
}

// Entries expire: the clock of the in-process server is driven.
func TestRedisEntriesExpire(t *testing.T) {
	server, err := embedded.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	client := connect(t, server.URL())
	if err := client.Set(t.Context(), "short", "x", 200*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), "long", "x", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		n, err := client.Exists(t.Context(), "short").Result()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the entry never expires")
		}
	}
	if n, err := client.Exists(t.Context(), "long").Result(); err != nil || n != 1 {
		t.Errorf("the long entry went too (%v)", err)
	}
}

// Nobody without the password reads or writes it.
func TestRedisAsksForItsPassword(t *testing.T) {
	server, err := embedded.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	address, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	if address.Hostname() != "127.0.0.1" {
		t.Errorf("it listens on %s", address.Host)
	}
	address.User = nil
	err = connect(t, address.String()).Get(t.Context(), "x").Err()
	if err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("a caller without the password got an answer: %v", err)
	}
}
