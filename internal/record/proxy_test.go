package record_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/record"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A commit whose outcome is not known is looked up: nothing is brought twice,
// nothing is left out. The proxy cuts the connection before, within and after
// the commit, by counting what Postgres is told and says.
func TestUnknownCommitIsLookedUp(t *testing.T) {
	s := setup(t)
	proxy := startProxy(t, s.url)
	pool := proxy.pool(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	shipper := record.NewShipper(spool, pool)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shipper.Run(ctx) }()
	var ids []uuid.UUID
	for cut := range 60 {
		ids = append(ids, put(t, spool, 3)...)
		proxy.cutAfter(cut)
		for spool.Stats().DepthRecords.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.wantExactly(ids)
	if proxy.cuts.Load() < 20 || proxy.answered.Load() == 0 || spool.Stats().Lost.Load() != 0 {
		t.Errorf("%d connections were cut, %d of them after the commit had reached Postgres; %d lost", proxy.cuts.Load(), proxy.answered.Load(), spool.Stats().Lost.Load())
	}
}

// proxy stands between a pool and Postgres, and cuts connections.
type proxy struct {
	address  string
	target   string
	url      *url.URL
	cuts     atomic.Int64
	answered atomic.Int64 // cuts that swallowed the answer to a COMMIT
	budget   atomic.Int64 // messages from the client until the next cut; -1: none
}

func startProxy(t *testing.T, address string) *proxy {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: u}
	p.budget.Store(-1)
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	network := "tcp"
	p.target = net.JoinHostPort(config.ConnConfig.Host, fmt.Sprint(config.ConnConfig.Port))
	if strings.HasPrefix(config.ConnConfig.Host, "/") {
		network, p.target = "unix", filepath.Join(config.ConnConfig.Host, fmt.Sprintf(".s.PGSQL.%d", config.ConnConfig.Port))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p.address = listener.Addr().String()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, p.target)
			if err != nil {
				client.Close()
				continue
			}
			go p.forward(client, server)
			go func() {
				buffer := make([]byte, 64<<10)
				for {
					n, err := server.Read(buffer)
					if err == nil {
						_, err = client.Write(buffer[:n])
					}
					if err != nil {
						client.Close()
						server.Close()
						return
					}
				}
			}()
		}
	}()
	return p
}

// forward passes on what the client says. When its budget is used up it passes
// on one message more and closes the client's side at once, so that the answer,
// to a COMMIT too, never arrives.
func (p *proxy) forward(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			server.Close()
			return
		}
		cut := p.budget.Load() >= 0 && p.budget.Add(-1) < 0
		if cut {
			p.cuts.Add(1)
			if strings.Contains(strings.ToLower(string(buffer[:n])), "commit") {
				p.answered.Add(1)
			}
			client.Close()
		}
		if _, err := server.Write(buffer[:n]); err != nil || cut {
			time.Sleep(5 * time.Millisecond) // Postgres reads it before it sees the end
			server.Close()
			client.Close()
			return
		}
	}
}

// cutAfter cuts the connection that is in use when n messages more were sent.
func (p *proxy) cutAfter(n int) { p.budget.Store(int64(n % 12)) }

func (p *proxy) pool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	u := *p.url
	query := u.Query()
	query.Del("host")
	query.Del("port")
	u.Host, u.RawQuery = p.address, query.Encode()
	return pgtest.PoolAs(t, u.String(), postgres.RoleSidecar)
}
