package main

import (
	"sync"
	"time"
)

func init() {
	addFigure("idle", []int{64}, "cpu_percent", func() float64 {
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
		before := cpuTime()
		const seconds = 5
		time.Sleep(seconds * time.Second)
		percent := 100 * (cpuTime() - before).Seconds() / seconds
		close(quiet)
		ended.Wait()
		return percent
	})
}
