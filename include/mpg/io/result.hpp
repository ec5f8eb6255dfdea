// What an operation of I/O returns: a value or a std::error_code.
#pragma once

#include <mpg/base/error.hpp>

#include <system_error>
#include <version>

#if defined(__cpp_lib_expected) && __cpp_lib_expected >= 202202L
#include <expected>
#else
#include <mpg/io/expected.hpp>
#endif

namespace mpg {

#if defined(__cpp_lib_expected) && __cpp_lib_expected >= 202202L
/// A T or a std::error_code (an mpg::errc or the system's): std::expected.
template <class T> using result = std::expected<T, std::error_code>;
/// What to return for an error: `return mpg::unexpected(code);`
using unexpected = std::unexpected<std::error_code>;
#else
/// A T or a std::error_code (an mpg::errc or the system's), with the members of std::expected.
template <class T> using result = io::expected<T, std::error_code>;
/// What to return for an error: `return mpg::unexpected(code);`
using unexpected = io::unexpected<std::error_code>;
#endif

} // namespace mpg
