package web

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
)

func TestReadyzTellsTheTruth(t *testing.T) {
	var postgres, redis error
	log, text := logOf(t)
	newHealth := func() *Health {
		return NewHealth(log,
			Check{Name: "postgres", Hint: "Postgres cannot be reached", Probe: func(context.Context) error { return postgres }},
			Check{Name: "redis", Hint: "Redis cannot be reached", Optional: true, Probe: func(context.Context) error { return redis }})
	}
	ask := func(h *Health) (int, map[string]any) {
		app, _ := newTestApp(t)
		h.Mount(app)
		if live, _ := call(t, app, "GET", "/livez", ""); live.StatusCode != fiber.StatusOK {
			t.Errorf("livez: %d", live.StatusCode)
		}
		response, body := call(t, app, "GET", "/readyz", "")
		var said map[string]any
		if err := json.Unmarshal([]byte(body), &said); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(body, "10.0.0.1") {
			t.Errorf("inner text shows: %s", body)
		}
		return response.StatusCode, said
	}
	part := func(said map[string]any, name string) map[string]any {
		return said["checks"].(map[string]any)[name].(map[string]any)
	}

	status, said := ask(newHealth())
	if status != 200 || said["ready"] != true || part(said, "postgres")["ok"] != true {
		t.Errorf("all is well: %d %v", status, said)
	}
	redis = errors.New("dial tcp 10.0.0.1")
	if status, said = ask(newHealth()); status != 200 || part(said, "redis")["reason"] != "Redis cannot be reached" {
		t.Errorf("Redis down: %d %v", status, said)
	}
	postgres = errors.New("dial tcp 10.0.0.1")
	if status, said = ask(newHealth()); status != 503 || said["ready"] != false || part(said, "postgres")["reason"] != "Postgres cannot be reached" {
		t.Errorf("Postgres down: %d %v", status, said)
	}
	if !strings.Contains(text.String(), "10.0.0.1") {
		t.Error("the log does not say why")
	}
	postgres = nil
	h := newHealth()
	h.Drain()
	if status, said = ask(h); status != 503 || part(said, "server")["ok"] != false {
		t.Errorf("draining: %d %v", status, said)
	}
}

func TestStrangersDoNotProbeAsOftenAsTheyAsk(t *testing.T) {
	probes := 0
	log, _ := logOf(t)
	h := NewHealth(log, Check{Name: "x", Probe: func(context.Context) error { probes++; return nil }})
	for range 100 {
		h.Ready(t.Context())
	}
	if probes > 50 {
		t.Errorf("%d probes for 100 questions in a moment", probes)
	}
}
