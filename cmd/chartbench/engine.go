package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// engineCommand runs the benchmarks of package compile and prints them as
// ratios. It runs in a checkout: the benchmarks are Go's.
type engineCommand struct {
	Rounds    int           `default:"3" help:"Rounds; the medians count. Default: ${default}."`
	Benchtime time.Duration `default:"1s" help:"How long each is measured in a round. Default: ${default}."`
	Lists     bool          `default:"true" negatable:"" help:"Lists as well, of 10,000, 100,000 and 1,000,000 clients."`
}

// Run prints topdown : partial evaluation : program, and lists against SQL
// written by hand.
func (c *engineCommand) Run(ctx context.Context) error {
	if c.Rounds < 1 || c.Benchtime <= 0 {
		return errors.New("--rounds, --benchtime: want more than 0")
	}
	what := "^BenchmarkDecision$"
	if c.Lists {
		what = "^Benchmark(Decision|Lists)$"
	}
	fmt.Fprintln(os.Stderr, "running go test -bench", what, "./internal/compile: some minutes, with lists")
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", what, "-benchtime", c.Benchtime.String(),
		"-count", strconv.Itoa(c.Rounds), "-timeout", "60m", "./internal/compile")
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: this needs Go and a checkout of Chartgate\n%s", err, output)
	}
	times := readBenchmarks(output)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "one decision\ttopdown\tpartial\tprogram\tns\tratio\t")
	for _, name := range times.names("BenchmarkDecision/topdown/") {
		all, partial, program := times.of("BenchmarkDecision/topdown/"+name), times.of("BenchmarkDecision/partial/"+name), times.of("BenchmarkDecision/program/"+name)
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\tns\t%.0f : %.0f : 1\t\n", name, all, partial, program, all/program, partial/program)
	}
	if c.Lists {
		fmt.Fprintln(w, "list of a page\tlist\tby hand\t\tµs\tratio\t")
		for _, name := range times.names("BenchmarkLists/") {
			if base, ok := strings.CutSuffix(name, "/list"); ok {
				list, hand := times.of("BenchmarkLists/"+name), times.of("BenchmarkLists/"+base+"/by-hand")
				fmt.Fprintf(w, "%s\t%.0f\t%.0f\t\tµs\t%.2f\t\n", base, list/1000, hand/1000, list/hand)
			}
		}
	}
	return w.Flush()
}

// benchmarks are the measured nanoseconds of each benchmark, in the order in
// which they came.
type benchmarks struct {
	order []string
	times map[string][]float64
}

func readBenchmarks(output []byte) benchmarks {
	b := benchmarks{times: map[string][]float64{}}
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != "ns/op" || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i] // the number of CPUs
		}
		ns, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			continue
		}
		if b.times[name] == nil {
			b.order = append(b.order, name)
		}
		b.times[name] = append(b.times[name], ns)
	}
	return b
}

// names are the benchmarks below prefix.
func (b benchmarks) names(prefix string) []string {
	var names []string
	for _, name := range b.order {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			names = append(names, rest)
		}
	}
	return names
}

func (b benchmarks) of(name string) float64 {
	if len(b.times[name]) == 0 {
		return 0
	}
	return median(slices.Clone(b.times[name]))
}
