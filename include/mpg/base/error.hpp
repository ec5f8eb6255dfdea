// The library's own error codes; everything else is the system's.
#pragma once

#include <string>
#include <system_error>

namespace mpg {

/// What can go wrong besides what the system reports. cancelled: a context was cancelled, or a runtime stopped.
/// deadline_exceeded: a deadline or time-out passed. closed: the object was closed, here, by somebody.
/// server_closed: a server's serve() ended because of shutdown() or close(); not a failure.
enum class errc { cancelled = 1, deadline_exceeded, closed, server_closed };

inline const std::error_category& error_category() noexcept {
    struct category final : std::error_category {
        const char* name() const noexcept override { return "mpg"; }
        std::string message(int value) const override {
            switch (static_cast<errc>(value)) {
            case errc::cancelled: return "cancelled";
            case errc::deadline_exceeded: return "deadline exceeded";
            case errc::closed: return "closed";
            case errc::server_closed: return "server closed";
            }
            return "unknown error";
        }
        std::error_condition default_error_condition(int value) const noexcept override {
            switch (static_cast<errc>(value)) {
            case errc::cancelled: return std::errc::operation_canceled;
            case errc::deadline_exceeded: return std::errc::timed_out;
            case errc::closed: return std::errc::bad_file_descriptor;
            default: return {value, *this};
            }
        }
    };
    static const category instance;
    return instance;
}

inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), error_category()}; }

} // namespace mpg

template <> struct std::is_error_code_enum<mpg::errc> : std::true_type {};
