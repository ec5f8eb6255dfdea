package main

import (
	"bufio"
	"fmt"
	"os"
	"sync"
)

func residentBytes() float64 {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		panic(err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib float64
		if n, _ := fmt.Sscanf(lines.Text(), "VmRSS: %f kB", &kib); n == 1 {
			return kib * 1024
		}
	}
	panic("no VmRSS")
}

func blockedTask(tasks int) func() float64 {
	return func() float64 {
		never := make(chan struct{})
		var started sync.WaitGroup
		started.Add(tasks)
		before := residentBytes()
		for i := 0; i < tasks; i++ {
			go func() {
				started.Done()
				<-never
			}()
		}
		started.Wait()
		return (residentBytes() - before) / float64(tasks)
	}
}

func init() {
	for _, tasks := range []int{10000, 100000, 1000000} {
		addFigure(fmt.Sprintf("memory/blocked_task/tasks:%d", tasks), []int{1, 2}, "bytes", blockedTask(tasks))
	}
	// A goroutine has its stack from the start, so this is the same figure; to keep it from running cannot be had.
	addFigure("memory/unstarted_task/tasks:1000000", []int{1}, "bytes", blockedTask(1000000))
}
