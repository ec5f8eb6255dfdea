// The Date header: IMF-fixdate, formatted once per second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <time.h>

namespace mpg::http::detail {

/// "Sun, 06 Nov 1994 08:49:37 GMT" into out[0..29).
constexpr std::size_t date_size = 29;

/// By arithmetic: gmtime_r takes a process-wide lock. Days to civil date: Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms".
constexpr void format_date(std::int64_t unix_seconds, char* out) noexcept {
    auto floor_div = [](std::int64_t a, std::int64_t b) { return a / b - (a % b < 0); };
    const std::int64_t days = floor_div(unix_seconds, 86400);
    const auto second = static_cast<unsigned>(unix_seconds - days * 86400);
    const std::int64_t z = days + 719468; // since 0000-03-01
    const std::int64_t era = floor_div(z, 146097);
    const auto day_of_era = static_cast<unsigned>(z - era * 146097);
    const unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const unsigned shifted_month = (5 * day_of_year + 2) / 153; // 0: March
    const unsigned day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    const unsigned month = shifted_month < 10 ? shifted_month + 2 : shifted_month - 10; // 0: January
    const auto year = static_cast<unsigned>(static_cast<std::int64_t>(year_of_era) + era * 400 + (month < 2));
    const auto weekday = static_cast<unsigned>(((days + 4) % 7 + 7) % 7);

    auto two = [](char* p, unsigned v) {
        p[0] = static_cast<char>('0' + v / 10 % 10);
        p[1] = static_cast<char>('0' + v % 10);
    };
    auto three = [](char* p, const char* names, unsigned i) {
        for (unsigned k = 0; k < 3; ++k) p[k] = names[3 * i + k];
    };
    three(out, "SunMonTueWedThuFriSat", weekday);
    out[3] = ',', out[4] = ' ';
    two(out + 5, day);
    out[7] = ' ';
    three(out + 8, "JanFebMarAprMayJunJulAugSepOctNovDec", month);
    out[11] = ' ';
    two(out + 12, year / 100);
    two(out + 14, year % 100);
    out[16] = ' ';
    two(out + 17, second / 3600);
    out[19] = ':';
    two(out + 20, second / 60 % 60);
    out[22] = ':';
    two(out + 23, second % 60);
    for (unsigned k = 0; k < 4; ++k) out[25 + k] = " GMT"[k];
}

/// The current date, ready for a header; one per connection, so that nothing is shared. 5 ns while the second
/// is the same: the coarse clock, which may be a few milliseconds behind.
class date_cache {
  public:
    /// "Date: ...\r\n"
    std::string_view line() noexcept { return ok_and_line().substr(status.size()); }
    /// The status line of a 200 in front of it.
    std::string_view ok_and_line() noexcept {
        ::timespec t;
        ::clock_gettime(CLOCK_REALTIME_COARSE, &t);
        if (t.tv_sec != second_) {
            second_ = t.tv_sec;
            format_date(second_, text_ + status.size() + name.size());
        }
        return {text_, sizeof text_ - 1};
    }

  private:
    static constexpr std::string_view status = "HTTP/1.1 200 OK\r\n", name = "Date: ";

    std::int64_t second_ = -1;
    char text_[status.size() + name.size() + date_size + 2 + 1] =
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
};

} // namespace mpg::http::detail
