// The twins of the benchmarks in Go: same names, same definitions of one iteration.
//
//	twins -list                                   names, one a line
//	twins -filter 'chan/.*/procs:1$'              measures those and prints "name,value" lines
//
// The value is ns an iteration, ms for a whole program, or what the case says (bytes, percent). As testing.B does, and
// as Google Benchmark does on the other side: a case runs with growing n until it takes -min-time.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"time"
)

type kind int

const (
	operation kind = iota // run(n): n iterations; ns an iteration
	program               // run(0), once; ms
	perTask               // run(0), once; ns divided by iterations
	figure                // value: whatever it measured itself
)

type benchmark struct {
	name       string
	kind       kind
	run        func(n int)
	value      func() float64
	iterations int
	procs      []int
}

var all []benchmark

func addOperation(name string, run func(n int)) {
	all = append(all, benchmark{name: name, kind: operation, run: run, procs: []int{1, 2}})
}

func addProgram(name string, run func()) {
	all = append(all, benchmark{name: name, kind: program, run: func(int) { run() }, procs: []int{1, 2}})
}

func addPerTask(name string, iterations int, run func()) {
	all = append(all, benchmark{name: name, kind: perTask, run: func(int) { run() }, iterations: iterations, procs: []int{1, 2}})
}

func addFigure(name string, procs []int, value func() float64) {
	all = append(all, benchmark{name: name, kind: figure, value: value, procs: procs})
}

func timed(run func(n int), n int) time.Duration {
	runtime.GC()
	begin := time.Now()
	run(n)
	return time.Since(begin)
}

func (b *benchmark) measure(minTime time.Duration) float64 {
	switch b.kind {
	case figure:
		return b.value()
	case program:
		return float64(timed(b.run, 0).Nanoseconds()) / 1e6
	case perTask:
		return float64(timed(b.run, 0).Nanoseconds()) / float64(b.iterations)
	}
	for n := 1; ; {
		took := timed(b.run, n)
		if took >= minTime || n >= 1e9 {
			return float64(took.Nanoseconds()) / float64(n)
		}
		grown := n * 10
		if took > minTime/10 {
			grown = int(1.4*float64(n)*float64(minTime)/float64(took)) + 1
		}
		n = grown
	}
}

// share is the part of task index of n iterations spread over tasks.
func share(n, index, tasks int) int {
	if index < n%tasks {
		return n/tasks + 1
	}
	return n / tasks
}

func main() {
	list := flag.Bool("list", false, "print the names")
	filter := flag.String("filter", "", "regular expression that names must match")
	minTime := flag.Duration("min-time", 500*time.Millisecond, "time an operation is repeated for")
	flag.Parse()
	want, err := regexp.Compile(*filter)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for i := range all {
		b := &all[i]
		for _, procs := range b.procs {
			name := fmt.Sprintf("%s/procs:%d", b.name, procs)
			if !want.MatchString(name) {
				continue
			}
			if *list {
				fmt.Println(name)
				continue
			}
			runtime.GOMAXPROCS(procs)
			fmt.Printf("%s,%g\n", name, b.measure(*minTime))
		}
	}
}
