package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/internal/authz"
	"chartgate/internal/web"
)

// keyCommand makes, lists and revokes keys.
type keyCommand struct {
	Make   keyMake   `cmd:"" help:"Make a key. Its text is shown once; what is kept is a hash."`
	List   keyList   `cmd:"" help:"List all keys, without their secrets."`
	Revoke keyRevoke `cmd:"" help:"End a key. When the command returns no server takes it any more."`
}

// keys opens the key store of the database of f.
func (f storeFlags) keys(ctx context.Context, work func(*web.KeyStore) error) error {
	return f.withSchema(ctx, func(pool *pgxpool.Pool) error { return work(web.NewKeyStore(pool)) })
}

type keyMake struct {
	Scopes       []string      `name:"scope" required:"" placeholder:"SCOPE" help:"What the key may be used for: ${scopes}."`
	Practices    []string      `name:"practice" xor:"practices" required:"" placeholder:"PRACTICE" help:"The practices that it is bound to."`
	AllPractices bool          `xor:"practices" required:"" help:"Bind it to no practice: it may ask about all."`
	Person       string        `placeholder:"USER" help:"Make it for this one person, who then acts with it."`
	Note         string        `help:"What it is for, shown in lists."`
	Expires      time.Duration `placeholder:"DURATION" help:"How long it holds, such as 720h. By default it has no end."`
	storeFlags
}

// Run makes a key and prints its text, and nothing else, on standard output.
func (c *keyMake) Run(ctx context.Context) error {
	key := web.NewKey{Note: c.Note, Scopes: c.Scopes, Practices: c.Practices, AllPractices: c.AllPractices, Person: c.Person}
	if c.Expires != 0 {
		key.ExpiresAt = time.Now().Add(c.Expires)
	}
	return c.keys(ctx, func(store *web.KeyStore) error {
		id, text, err := store.Make(ctx, key)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "key %s was made; this is the only time that it is shown\n", id)
		fmt.Println(text)
		return nil
	})
}

type keyList struct {
	storeFlags
}

// Run lists the keys, the oldest first.
func (c *keyList) Run(ctx context.Context) error {
	return c.keys(ctx, func(store *web.KeyStore) error {
		keys, err := store.List(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tSCOPES\tPRACTICES\tPERSON\tMADE\tENDS\tNOTE")
		for _, key := range keys {
			practices, ends := strings.Join(key.Practices, ","), "never"
			if key.AllPractices {
				practices = "(all)"
			}
			if key.ExpiresAt.Before(authz.NoEnd) {
				ends = key.ExpiresAt.UTC().Format(time.RFC3339)
			}
			if key.RevokedAt != nil {
				ends = "revoked " + key.RevokedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", key.ID, strings.Join(key.Scopes, ","), practices, key.Person,
				key.CreatedAt.UTC().Format(time.RFC3339), ends, key.Note)
		}
		return table.Flush()
	})
}

type keyRevoke struct {
	ID string `arg:"" help:"The key's id, as 'chartgate key list' shows it."`
	storeFlags
}

// Run revokes the key.
func (c *keyRevoke) Run(ctx context.Context) error {
	return c.keys(ctx, func(store *web.KeyStore) error {
		if err := store.Revoke(ctx, c.ID); err != nil {
			return err
		}
		fmt.Println("revoked", c.ID)
		return nil
	})
}
