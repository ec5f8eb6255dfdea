// All of the core. I/O, signals, HTTP and debugging have headers of their own.
#pragma once

#include <mpg/chan.hpp>
#include <mpg/context.hpp>
#include <mpg/runtime.hpp>
#include <mpg/scope.hpp>
#include <mpg/select.hpp>
#include <mpg/sync.hpp>
#include <mpg/task.hpp>
#include <mpg/time.hpp>
