package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
)

// report is what a scenario found, as it is written to a file.
type report struct {
	Scenario string         `json:"scenario"`
	Machine  machine        `json:"machine"`
	Setup    map[string]any `json:"setup"`
	Results  []result       `json:"results"`
	Open     []openLoop     `json:"open_loop,omitempty"`
	Apart    *apart         `json:"record_apart,omitempty"`
}

type machine struct {
	System string `json:"system"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
}

func thisMachine() machine {
	return machine{System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
}

// result is how one target did with so many connections: medians over the
// rounds, and the median of what each round was to the same round of another.
type result struct {
	Connections int      `json:"connections"`
	Target      string   `json:"target"`
	Against     string   `json:"against"`
	Median      sample   `json:"median"`
	Ratio       ratio    `json:"ratio"`
	Rounds      []sample `json:"rounds"`
}

type ratio struct {
	Throughput float64 `json:"throughput"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	CPU        float64 `json:"cpu"` // of the server itself, without its stores
}

// sum fills in the medians.
func (r *result) sum(floor []sample) {
	of := func(value func(sample) float64) (own, ratio float64) {
		values, ratios := make([]float64, len(r.Rounds)), make([]float64, len(r.Rounds))
		for i := range r.Rounds {
			values[i] = value(r.Rounds[i])
			if below := value(floor[i]); below > 0 {
				ratios[i] = values[i] / below
			}
		}
		return median(values), median(ratios)
	}
	r.Median.CPU = map[string]float64{}
	r.Median.Throughput, r.Ratio.Throughput = of(func(s sample) float64 { return s.Throughput })
	r.Median.P50, r.Ratio.P50 = of(func(s sample) float64 { return s.P50 })
	r.Median.P99, r.Ratio.P99 = of(func(s sample) float64 { return s.P99 })
	r.Median.Owed, _ = of(func(s sample) float64 { return s.Owed })
	for name := range r.Rounds[0].CPU {
		own, ratio := of(func(s sample) float64 { return s.CPU[name] })
		r.Median.CPU[name] = own
		if name == "server" {
			r.Ratio.CPU = ratio
		}
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// print writes the medians as a table.
func (r *report) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "connections\ttarget\trequests/s\tratio\tto\tp50 µs\tp99 µs\tCPU µs\tratio\tload CPU µs\tPostgres CPU µs\tCPU µs owed\t")
	for _, row := range r.Results {
		fmt.Fprintf(w, "%d\t%s\t%.0f\t%.3f\t%s\t%.0f\t%.0f\t%s\t%s\t%s\t%s\t%s\t\n", row.Connections, row.Target, row.Median.Throughput, row.Ratio.Throughput,
			row.Against, row.Median.P50, row.Median.P99, known("%.1f", row.Median.CPU["server"]), known("%.2f", row.Ratio.CPU), known("%.1f", row.Median.CPU[load]), known("%.1f", row.Median.CPU["postgres"]), known("%.1f", row.Median.Owed))
	}
	w.Flush()
	for _, o := range r.Open {
		fmt.Fprintf(out, "\n%s, open loop at %.0f requests/s, 70%% of its most: p50 %.0f µs, p99 %.0f µs, counted from when each was due", o.Target, o.Rate, o.P50, o.P99)
	}
	if r.Apart != nil {
		fmt.Fprintf(out, "\nof the sidecar's CPU under full load: shipping to Postgres %.1f%%, chain %.1f%%, spool %.1f%%", r.Apart.Ship, r.Apart.Chain, r.Apart.Spool)
	}
	fmt.Fprintf(out, "\nMedians of %v rounds of %v s, in turn; CPU is per request; owed is what shipping took after a round, of both. %s, %d CPUs, %s; the load comes from the same machine.\n",
		r.Setup["rounds"], r.Setup["seconds"], r.Machine.System, r.Machine.CPUs, r.Machine.Go)
}

// write writes the figures as JSON.
func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// known writes a figure, or "-" where it was not measured.
func known(format string, value float64) string {
	if value == 0 {
		return "-"
	}
	return fmt.Sprintf(format, value)
}
