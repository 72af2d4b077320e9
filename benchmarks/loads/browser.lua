-- The headers a browser sends, with a query, a cookie and a request id that differ each time; so does the answer's head.
local count = 0
local host = wrk.headers["Host"]
function request()
  count = count + 1
  return "GET /unique?v=" .. count .. " HTTP/1.1\r\nHost: " .. host .. "\r\n" ..
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" ..
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" ..
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br\r\n" ..
    "Referer: http://" .. host .. "/start\r\nCookie: session=6f1a9c2be7d04c58; seen=" .. count .. "\r\n" ..
    "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n" ..
    "Sec-Fetch-Site: same-origin\r\nX-Request-ID: load-" .. count .. "\r\nConnection: keep-alive\r\n\r\n"
end
