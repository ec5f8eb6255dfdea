package main

import "time"

func init() {
	addOperation("time/timer/start_stop", func(n int) {
		for k := 0; k < n; k++ {
			time.NewTimer(time.Hour).Stop()
		}
	})
}
