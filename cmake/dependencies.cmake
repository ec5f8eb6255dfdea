# What mpg::mpg stands on. The package configuration asks for the same (see mpg-config.cmake.in).
#
# Only Boost.Context is a compiled part of Boost here. A policy of newer CMake versions removes FindBoost; CONFIG never
# used it.
find_package(Boost 1.74 CONFIG REQUIRED COMPONENTS context)
find_package(liburing REQUIRED)
find_package(concurrentqueue REQUIRED)
find_package(Threads REQUIRED)
# For <mpg/debug.hpp> alone, and only where they are: names instead of addresses, compressed profiles.
find_package(libdw QUIET)
find_package(ZLIB QUIET)
# For mpg::tls alone.
find_package(OpenSSL 3 QUIET COMPONENTS SSL)
