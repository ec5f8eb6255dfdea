package main

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const hogsPerProc = 4

type turns struct {
	n atomic.Uint64
	_ [56]byte
}

func besideHogs(observe func()) []float64 {
	var on atomic.Bool
	on.Store(true)
	counts := make([]turns, hogsPerProc*runtime.GOMAXPROCS(0))
	var ended sync.WaitGroup
	for i := range counts {
		mine := &counts[i]
		ended.Add(1)
		go func() {
			for on.Load() {
				mine.n.Add(1)
			}
			ended.Done()
		}()
	}
	result := make([]float64, len(counts))
	for i := range counts {
		for counts[i].n.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for i := range counts {
		result[i] = -float64(counts[i].n.Load())
	}
	observe()
	on.Store(false)
	ended.Wait()
	for i := range counts {
		result[i] += float64(counts[i].n.Load())
	}
	return result
}

//go:noinline
func compute(rounds int) int {
	sum := 0
	for i := 0; i < rounds; i++ {
		sum ^= i
	}
	return sum
}

var kept atomic.Int64 // so that compute is not left out

func roundsOf50ms() int {
	const some = 20000000
	best := time.Hour
	for i := 0; i < 5; i++ {
		begin := cpuTime()
		kept.Add(int64(compute(some)))
		if took := cpuTime() - begin; took < best {
			best = took
		}
	}
	return int(float64(some) * 0.050 / best.Seconds())
}

func runBatch(tasks, rounds int) (wall, cpu float64) {
	begin, cpuBegin := time.Now(), cpuTime()
	var ended sync.WaitGroup
	for i := 0; i < tasks; i++ {
		ended.Add(1)
		go func() {
			kept.Add(int64(compute(rounds)))
			ended.Done()
		}()
	}
	ended.Wait()
	return time.Since(begin).Seconds(), (cpuTime() - cpuBegin).Seconds()
}

// What a part of the batch takes in a process of its own, where goroutines are preempted or not.
func part(debug string, tasks, rounds int) (wall, cpu float64, threads int) {
	self, err := filepath.Abs("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "GODEBUG="+debug, "MPG_TWIN_PART="+strings.Join([]string{
		strconv.Itoa(runtime.GOMAXPROCS(0)), strconv.Itoa(tasks), strconv.Itoa(rounds)}, " "))
	out, err := c.Output()
	if err != nil {
		panic(err)
	}
	words := strings.Fields(string(out))
	wall, _ = strconv.ParseFloat(words[0], 64)
	cpu, _ = strconv.ParseFloat(words[1], 64)
	threads, _ = strconv.Atoi(words[2])
	return
}

func init() {
	if given := os.Getenv("MPG_TWIN_PART"); given != "" {
		words := strings.Fields(given)
		procs, _ := strconv.Atoi(words[0])
		tasks, _ := strconv.Atoi(words[1])
		rounds, _ := strconv.Atoi(words[2])
		runtime.GOMAXPROCS(procs)
		wall, cpu := runBatch(tasks, rounds)
		// Threads of a Go program do not end.
		os.Stdout.WriteString(strconv.FormatFloat(wall, 'g', -1, 64) + " " + strconv.FormatFloat(cpu, 'g', -1, 64) + " " +
			strconv.Itoa(pprof.Lookup("threadcreate").Count()) + "\n")
		syscall.Exit(0)
	}

	both := []int{1, 2}
	addFigures("hogs/tick", both, func() map[string]float64 {
		const ticks = 300
		late := make([]float64, 0, ticks)
		besideHogs(func() {
			due := time.Now()
			for i := 0; i < ticks; i++ {
				due = due.Add(10 * time.Millisecond)
				time.Sleep(time.Until(due))
				late = append(late, time.Since(due).Seconds()*1e3)
			}
		})
		sort.Float64s(late)
		return map[string]float64{"p50_ms": late[ticks/2], "p99_ms": late[ticks*99/100], "max_ms": late[ticks-1]}
	})

	addFigures("hogs/share", both, func() map[string]float64 {
		got := besideHogs(func() { time.Sleep(2 * time.Second) })
		sort.Float64s(got)
		return map[string]float64{"most_to_least": got[len(got)-1] / math.Max(got[0], 1)}
	})

	addFigures("hogs/batch", both, func() map[string]float64 {
		const parts = 11
		tasks := 132
		if given := os.Getenv("MPG_BENCH_TASKS"); given != "" {
			tasks, _ = strconv.Atoi(given)
		}
		rounds := roundsOf50ms()
		// Others make parts longer, never shorter: so the shortest of each kind are compared.
		wall, cpu, wall0, cpu0 := math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)
		most := 0
		for i := 0; i < parts; i++ {
			w, c, threads := part("asyncpreemptoff=0", tasks/parts, rounds)
			w0, c0, _ := part("asyncpreemptoff=1", tasks/parts, rounds)
			wall, cpu, wall0, cpu0 = math.Min(wall, w), math.Min(cpu, c), math.Min(wall0, w0), math.Min(cpu0, c0)
			if threads > most {
				most = threads
			}
		}
		return map[string]float64{"threads": float64(most), "loss_percent": 100 * (wall/wall0 - 1), "cpu_loss_percent": 100 * (cpu/cpu0 - 1)}
	})
}
