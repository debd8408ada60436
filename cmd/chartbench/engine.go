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
		whole, _ := strings.CutSuffix(name, "-allow") // the program has no quicker way to say allow alone
		all, partial, program := times.of("BenchmarkDecision/topdown/"+name), times.of("BenchmarkDecision/partial/"+name), times.of("BenchmarkDecision/program/"+whole)
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\tns\t%.0f : %.0f : 1\t\n", name, all, partial, program, all/program, partial/program)
	}
	if c.Lists {
		fmt.Fprintln(w, "clients/member/page\tlist\tby hand\t\t\tratio\t")
		for _, name := range times.names("BenchmarkLists/") {
			list, hand := times.of("BenchmarkLists/"+name+" list-ns"), times.of("BenchmarkLists/"+name+" hand-ns")
			if list > 0 && hand > 0 {
				fmt.Fprintf(w, "%s\t%.0f\t%.0f\t\tµs\t%.2f\t\n", name, list/1000, hand/1000, list/hand)
			}
		}
	}
	return w.Flush()
}

// benchmarks are what was measured of each benchmark, in the order in which they
// came: nanoseconds by its name, other units by name and unit.
type benchmarks struct {
	order []string
	times map[string][]float64
}

func readBenchmarks(output []byte) benchmarks {
	b := benchmarks{times: map[string][]float64{}}
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i] // the number of CPUs
		}
		if b.times[name] == nil {
			b.order = append(b.order, name)
		}
		for i := 2; i+1 < len(fields); i += 2 {
			measured, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				continue
			}
			if unit := fields[i+1]; unit == "ns/op" {
				b.times[name] = append(b.times[name], measured)
			} else {
				b.times[name+" "+unit] = append(b.times[name+" "+unit], measured)
			}
		}
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
