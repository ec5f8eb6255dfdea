package main

import (
	"fmt"
	"time"
)

var liveTimers []*time.Timer

func startStop(n int) {
	for k := 0; k < n; k++ {
		time.NewTimer(time.Hour).Stop()
	}
}

func init() {
	addOperation("time/timer/start_stop", startStop)
	for _, live := range []int{1000, 100000} {
		live := live
		addPrepared(fmt.Sprintf("time/timer/start_stop/live:%d", live), func() {
			for i := 0; i < live; i++ {
				liveTimers = append(liveTimers, time.NewTimer(2*time.Hour+time.Duration(i)*time.Millisecond))
			}
		}, startStop)
	}
}
