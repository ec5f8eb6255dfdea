// The loops of hazard_test.cpp in which a compiler could remember something of the thread that a task has
// left.
//
// They stand apart because they are compiled in several ways: into the test itself, and into a shared object
// of position-independent code (hazard_probe.cpp), where thread-local variables are reached by another access
// model. Each returns an empty string, or what went wrong.
#pragma once

#include <string>

namespace hazard {

/// Who am I, asked in a loop over suspensions while the task changes threads. `moves` counts the changes.
std::string identity_over_switches(int rounds, unsigned long& moves);
/// `throw;` in a handler, after suspensions, throws the exception that this task caught.
std::string rethrow_over_switches(int rounds, int mine);
/// uncaught_exceptions() in destructors that run during unwinding, and that suspend.
std::string uncaught_over_switches(int rounds);
/// errno is the task's.
std::string errno_over_switches(int rounds, int mine);
/// The rounding mode is the task's.
std::string rounding_over_switches(int rounds, int mode);

} // namespace hazard
