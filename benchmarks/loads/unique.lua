-- A small GET of which no two heads are alike, in either direction: nothing that is remembered helps.
local count = 0
local host = wrk.headers["Host"]
function request()
  count = count + 1
  return "GET /unique?v=" .. count .. " HTTP/1.1\r\nHost: " .. host .. "\r\nX-Request-ID: load-" .. count .. "\r\n\r\n"
end
