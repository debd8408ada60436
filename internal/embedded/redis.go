package embedded

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// tick is how often the clock of the in-process Redis is moved on: that looks at
// every entry, and none lives for less than minutes.
const tick = 2 * time.Second

// Redis is a Redis server inside this process.
type Redis struct {
	server   *miniredis.Miniredis
	password string
	stop     chan struct{}
	stopped  chan struct{}
}

// StartRedis listens on a free port of the loopback address. A password keeps
// other users of the machine out: whoever writes to the cache writes facts.
func StartRedis() (*Redis, error) {
	server := miniredis.NewMiniRedis()
	password := rand.Text()
	server.RequireAuth(password)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start redis in process: %w", err)
	}
	r := &Redis{server: server, password: password, stop: make(chan struct{}), stopped: make(chan struct{})}
	go r.drive()
	return r, nil
}

// drive moves the server's clock with the real one. Without it no entry would
// ever expire.
func (r *Redis) drive() {
	defer close(r.stopped)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			now := time.Now()
			r.server.FastForward(now.Sub(last))
			last = now
		}
	}
}

// URL is the address of the server, password included.
func (r *Redis) URL() string {
	return fmt.Sprintf("redis://:%s@%s/0", r.password, r.server.Addr())
}

// Stop ends the server and its clock. Call it once.
func (r *Redis) Stop() {
	close(r.stop)
	<-r.stopped
	r.server.Close()
}
