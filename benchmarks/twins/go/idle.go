package main

import (
	"sync"
	"syscall"
	"time"
)

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func init() {
	addFigure("idle", []int{64}, func() float64 {
		work := make(chan int, 64)
		quiet := make(chan struct{})
		var ended sync.WaitGroup
		for i := 0; i < 256; i++ {
			ended.Add(1)
			go func() {
				<-work
				<-quiet
				ended.Done()
			}()
		}
		for i := 0; i < 256; i++ {
			work <- i
		}
		time.Sleep(time.Second)
		before := cpuSeconds()
		const seconds = 5
		time.Sleep(seconds * time.Second)
		percent := 100 * (cpuSeconds() - before) / seconds
		close(quiet)
		ended.Wait()
		return percent
	})
}
