// Input and output: what all of it shares. Sockets are in <mpg/net.hpp>.
//
//   result<T>   a value or a std::error_code, with the members of std::expected
//   errc        what can go wrong besides what the system reports: cancelled, deadline_exceeded, closed
#pragma once

#include <mpg/base/error.hpp>
#include <mpg/io/copy.hpp>
#include <mpg/io/drivers.hpp>
#include <mpg/io/file.hpp>
#include <mpg/io/result.hpp>
#include <mpg/sched/whole.hpp>
