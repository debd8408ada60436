package facts

import (
	"fmt"

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
