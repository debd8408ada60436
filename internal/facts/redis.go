package facts

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// OpenRedis returns a client for url (redis://, rediss:// or unix://) that
// gives up as soon as a decision does: no retries, and deadlines of the context
// hold. It does not connect yet, since a Redis that is down is no fault.
func OpenRedis(url string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	options.ContextTimeoutEnabled = true
	options.MaxRetries = -1
	options.DialTimeout = redisLimit
	options.DialerRetries = 1
	options.DisableIdentity = true
	return redis.NewClient(options), nil
}

// plainRedis is the single server that client asks, if what is asked stands on its
// connections as it is, so that it can be asked without the client; else nil.
func plainRedis(client redis.UniversalClient) *redis.Client {
	if c, is := client.(*redis.Client); is && c.Options().TLSConfig == nil {
		return c
	}
	return nil
}

// dialRedis opens a connection of one's own to the server of client, says who is
// asking and which database is meant, and gives the connection to take, for which
// nothing is on its way then.
func dialRedis(ctx context.Context, client *redis.Client, take func(net.Conn) error) error {
	options := *client.Options()
	var d net.Dialer
	conn, err := d.DialContext(ctx, options.Network, options.Addr)
	if err != nil {
		return err
	}
	defer conn.Close() // who takes it keeps a copy
	var given atomic.Bool
	options.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if given.Swap(true) { // the client may try again, even while nobody asks
			return nil, net.ErrClosed
		}
		return conn, nil
	}
	options.Protocol = 2 // of which a server says nothing unasked
	options.PoolSize, options.MinIdleConns, options.MaxRetries = 1, 0, -1
	one := redis.NewClient(&options)
	defer one.Close()
	if err := one.Ping(ctx).Err(); err != nil {
		return err
	}
	return take(conn)
}
