// All that the rooms above declare of this room and use, defined: so every door includes it, and a
// translation unit that includes a single door can be linked.
#pragma once

#include <mpg/sched/blocks.hpp>
#include <mpg/sched/stop.hpp>
#include <mpg/sched/timers.hpp>
#include <mpg/sched/unwind.hpp>
#include <mpg/sched/yield.hpp>
