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

func blockedTask() float64 {
	const tasks = 1000000
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
	return (residentBytes() - before) / tasks
}

func init() {
	addFigure("memory/blocked_task", []int{1, 2}, blockedTask)
	// A goroutine has its stack from the start, so this is the same figure; to keep it from running cannot be had.
	addFigure("memory/unstarted_task", []int{1}, blockedTask)
}
