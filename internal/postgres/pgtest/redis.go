package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis returns the URL (for redis.ParseURL) of a real Redis server that is
// empty and used by this test alone: a server started for it on a unix socket,
// or, with REDIS_URL, an empty database of that server, flushed afterwards.
func Redis(t testing.TB) string {
	t.Helper()
	if address := os.Getenv("REDIS_URL"); address != "" {
		return emptyDatabase(t, address)
	}
	program, err := findRedis()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "chartgate-redis-") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "redis.sock")
	cmd := exec.Command(program, "--port", "0", "--unixsocket", socket, "--dir", folder,
		"--save", "", "--appendonly", "no", "--loglevel", "warning")
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	sweep, err := sweepAtExit(cmd.Process.Pid, folder, socket)
	if err != nil {
		_ = cmd.Process.Kill()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it keeps nothing; an error means that it has ended already
		_ = cmd.Wait()
		sweep.dismiss()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return "unix://" + socket + "?db=0"
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", program, err)
		}
	}
}

func findRedis() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no redis-server is installed: 'apt-get install -y redis-server', or set REDIS_URL")
}

// claim is the key, in database 0, that marks a database as taken by a test.
const claim = "chartgate-test-database-"

// emptyDatabase takes one of the databases 1 to 15 of a shared server.
func emptyDatabase(t testing.TB, address string) string {
	t.Helper()
	options, err := redis.ParseURL(address)
	if err != nil {
		t.Fatalf("REDIS_URL: %v", err)
	}
	options.DB = 0
	control := redis.NewClient(options)
	t.Cleanup(func() { control.Close() })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		for n := 1; n < 16; n++ {
			taken, err := control.SetNX(t.Context(), claim+strconv.Itoa(n), 1, 10*time.Minute).Result()
			if err != nil {
				t.Fatalf("REDIS_URL: %v", err)
			}
			if !taken {
				continue
			}
			own := *options
			own.DB = n
			client := redis.NewClient(&own)
			t.Cleanup(func() { client.Close() })
			free := func() { control.Del(context.Background(), claim+strconv.Itoa(n)) }
			if size, err := client.DBSize(t.Context()).Result(); err != nil || size > 0 {
				free()
				continue
			}
			t.Cleanup(func() { client.FlushDB(context.Background()); free() })
			return onRedisDatabase(address, n)
		}
		if time.Now().After(deadline) {
			t.Fatal("REDIS_URL: none of the databases 1 to 15 is empty and free")
		}
	}
}

// onRedisDatabase is address with another database number.
func onRedisDatabase(address string, n int) string {
	base, query, _ := strings.Cut(address, "?")
	if strings.HasPrefix(base, "unix:") {
		return base + "?db=" + strconv.Itoa(n)
	}
	scheme, rest, _ := strings.Cut(base, "://")
	host, _, _ := strings.Cut(rest, "/")
	address = scheme + "://" + host + "/" + strconv.Itoa(n)
	if query != "" {
		address += "?" + query
	}
	return address
}
