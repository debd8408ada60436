package halves

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/errgroup"

	"chartgate/internal/web"
)

// drainTime is how long calls that are under way may take to end.
const drainTime = 10 * time.Second

// Half is a server and what it stands on.
type Half struct {
	Name string

	app      *fiber.App
	front    front
	health   *web.Health
	services []func(context.Context) error // that run beside the server, and end after it
	closers  []func()                      // in the order in which things were opened
}

// Serve answers on listener until ctx ends. Then it takes no new calls, waits
// for those under way, and ends its services; what they wait for is still there.
func (h *Half) Serve(ctx context.Context, listener net.Listener) error {
	fronted, err := h.front(listener)
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, errors.Join(err, listener.Close()))
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	services, serving := errgroup.WithContext(serving)
	for _, service := range h.services {
		services.Go(func() error {
			if err := service(serving); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}
	server := make(chan error, 1)
	go func() { server <- h.app.Listener(fronted) }()
	select {
	case err = <-server:
	case <-serving.Done(): // a service failed: Wait has its error
	case <-ctx.Done():
	}
	h.health.Drain()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if late := h.app.ShutdownWithContext(drain); late != nil {
		slog.Warn("calls were cut off", "server", h.Name, "error", late)
	}
	fronted.Close() // Fiber closes it only once it serves; closing twice does no harm
	stop()
	if err = errors.Join(err, services.Wait()); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// Close gives back what the half has opened. Call it after Serve.
func (h *Half) Close() {
	for _, close := range slices.Backward(h.closers) {
		close()
	}
}

// front is what stands before an app: it takes the connections, and gives the
// app a listener for those that it leaves to it.
type front func(net.Listener) (net.Listener, error)

// patient is the front of a server that has no other.
func patient(l net.Listener) (net.Listener, error) { return web.Patient(l), nil }
