"""A small shop in Flask. What it does with Caddy is in gateway.py; the rest is an ordinary shop."""

import os
from datetime import datetime, timedelta, timezone

import requests
from flask import Flask, abort, jsonify, redirect, render_template, request
from werkzeug.exceptions import HTTPException

import orders
from gateway import ask, gateway

app = Flask(__name__)
app.register_blueprint(gateway)

SEOUL = timezone(timedelta(hours=9))


@app.template_filter()
def won(amount):
    return f"{amount:,}원"


@app.template_filter()
def groups(number):
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


@app.template_filter()
def until(seconds):
    t = datetime.fromtimestamp(seconds, SEOUL)
    return f"{t.year}년 {t.month}월 {t.day}일 {t:%H:%M}까지"


@app.before_request
def limit():
    if (request.content_length or 0) > 64 * 1024:  # MAX_CONTENT_LENGTH of Debian's Flask limits forms only
        abort(413)
    if "Transfer-Encoding" in request.headers:  # a body of unknown length; neither Caddy nor a form sends one
        abort(411)


@app.after_request
def headers(response):
    response.headers.update(
        {
            "Cache-Control": "no-store",  # a reload shows the order's present state
            "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "same-origin",  # whoever knows the address of an order can open it
        }
    )
    return response


def problem(text, status):
    return render_template("problem.html", text=text), status


@app.get("/")
def home():
    return render_template("home.html", products=orders.products())


@app.post("/orders")
def create():
    product = orders.product(request.form.get("product"))
    if product is None:
        return problem("없는 상품입니다", 400)
    if product["stock"] == 0:
        return problem("품절되었습니다", 409)
    return redirect(f"/orders/{orders.create(product)}", 303)


@app.get("/orders/<order_id>.json")
def state(order_id):
    order = orders.find(order_id)
    if order is None:
        return jsonify(reason="없는 주문입니다"), 404
    return jsonify({name: order[name] for name in ("id", "product", "amount", "state", "paid_at")})


@app.get("/orders/<order_id>")
def show(order_id):
    """The page of an order without a barcode asks for one. A reload asks again if that failed."""
    order = orders.find(order_id)
    if order is None:
        return problem("없는 주문입니다", 404)
    if order["state"] == "waiting" and not order["barcode"]:
        try:
            ask(orders.reopen(order_id))
        except (requests.RequestException, ValueError) as error:
            app.logger.error("asking for the barcode of %s: %s", order_id, error)
        order = orders.find(order_id)
    return render_template("order.html", order=order, overdue=orders.overdue(order))


@app.post("/orders/<order_id>/barcode")
def reopen(order_id):
    """A new barcode for an order whose last one has expired. Nobody is to go to the till in vain."""
    order = orders.find(order_id)
    if order is None:
        return problem("없는 주문입니다", 404)
    if not order["held"] and orders.product(order["product"])["stock"] == 0:
        return problem("품절되었습니다", 409)
    orders.reopen(order_id)
    return redirect(f"/orders/{order_id}", 303)


@app.errorhandler(HTTPException)
def refused(error):
    return problem("없는 페이지입니다" if error.code in (404, 405) else "잘못된 요청입니다", error.code)


@app.errorhandler(500)
def failed(_):
    return problem("잠시 후 다시 시도해 주세요", 500)


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", 3000)))
