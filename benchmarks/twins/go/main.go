// The twins of the benchmarks in Go: same names, same definitions of one iteration.
//
//	twins --list                        names, one a line
//	twins --run NAME --min-time 0.5     measures that case and prints its figures, "name,value" a line
//
// Figures: time and cpu (of the whole process) in ns an iteration, or what the case says (bytes, percent). As testing.B
// does, and as Google Benchmark does on the other side: a case runs with growing n until it takes --min-time.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

type benchmark struct {
	name       string
	procs      []int
	iterations int                       // of a whole program; 0: as many as the time asks for
	prepare    func()                    // what must stand before the clock starts
	run        func(n int)               // n iterations
	figures    func() map[string]float64 // of a case that measures something else than time
}

var all []*benchmark

func add(b *benchmark) {
	if b.procs == nil {
		b.procs = []int{1, 2}
	}
	all = append(all, b)
}

func addOperation(name string, run func(n int)) { add(&benchmark{name: name, run: run}) }

func addPrepared(name string, prepare func(), run func(n int)) {
	add(&benchmark{name: name, prepare: prepare, run: run})
}

func addProgram(name string, run func()) { addPerTask(name, 1, run) }

func addPerTask(name string, iterations int, run func()) {
	add(&benchmark{name: name, run: func(int) { run() }, iterations: iterations})
}

func addFigure(name string, procs []int, figure string, value func() float64) {
	addFigures(name, procs, func() map[string]float64 { return map[string]float64{figure: value()} })
}

func addFigures(name string, procs []int, figures func() map[string]float64) {
	add(&benchmark{name: name, procs: procs, figures: figures})
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// timed takes the garbage out first: each repetition pays for its own.
func (b *benchmark) timed(n int) (wall, cpu time.Duration) {
	runtime.GC()
	cpuBegin := cpuTime()
	begin := time.Now()
	b.run(n)
	return time.Since(begin), cpuTime() - cpuBegin
}

func (b *benchmark) measure(minTime time.Duration) map[string]float64 {
	if b.figures != nil {
		return b.figures()
	}
	if b.prepare != nil {
		b.prepare()
	}
	n := b.iterations
	if n == 0 {
		n = 1
	}
	for {
		took, cpu := b.timed(n)
		if took >= minTime || n >= 1e9 || b.iterations != 0 {
			return map[string]float64{"time": float64(took) / float64(n), "cpu": float64(cpu) / float64(n)}
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
	wanted := flag.String("run", "", "the case to measure")
	minTime := flag.Float64("min-time", 0.5, "seconds an operation is repeated for")
	flag.Parse()
	for _, b := range all {
		for _, procs := range b.procs {
			name := fmt.Sprintf("%s/procs:%d", b.name, procs)
			if *list {
				fmt.Println(name)
			} else if name == *wanted {
				runtime.GOMAXPROCS(procs)
				for figure, value := range b.measure(time.Duration(*minTime * 1e9)) {
					fmt.Printf("%s,%g\n", figure, value)
				}
				return
			}
		}
	}
	if !*list {
		fmt.Fprintf(os.Stderr, "no case %q\n", *wanted)
		os.Exit(2)
	}
}
