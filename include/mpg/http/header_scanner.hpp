// Where a header ends.
#pragma once

#include <cstddef>
#include <cstring>
#include <string_view>

namespace mpg::http::detail {

/// Looks for the end of a header, incrementally.
class header_scanner {
  public:
    enum class result { incomplete, complete, malformed };

    /// bytes: all that has come since the header's first byte (the same ones as before, and more).
    result scan(std::string_view bytes) noexcept {
        while (scanned_ < bytes.size()) {
            const void* found = std::memchr(bytes.data() + scanned_, '\n', bytes.size() - scanned_);
            if (!found) {
                scanned_ = bytes.size();
                break;
            }
            const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data());
            if (at == 0 || bytes[at - 1] != '\r') return result::malformed; // a line must end with CRLF
            scanned_ = at + 1;
            ++lines_;
            if (at == line_ + 1 && lines_ > 1) return result::complete;
            line_ = at + 1;
        }
        return result::incomplete;
    }
    /// After complete: the header's length, its empty line included.
    std::size_t length() const noexcept { return scanned_; }
    /// Whole lines seen.
    std::size_t lines() const noexcept { return lines_; }

  private:
    std::size_t scanned_ = 0, line_ = 0, lines_ = 0;
};

} // namespace mpg::http::detail
