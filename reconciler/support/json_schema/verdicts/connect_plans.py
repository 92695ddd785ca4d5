"""Made by docs/compile_schemas.py from schemas/connect/plans.schema.json; to change it, change that."""

from typing import Any

from reconciler.support.json_schema.verdicts import Unfit, is_number, is_text, matches

NoneType = type(None)


def document(data: Any) -> None:
    if not isinstance(data, list):
        raise Unfit
    data_is_list = isinstance(data, list)
    if data_is_list:
        data_len = len(data)
        for data_x, data_item in enumerate(data):
            if not isinstance(data_item, dict):
                raise Unfit
            data_item_is_dict = isinstance(data_item, dict)
            if data_item_is_dict:
                data_item__missing_keys = set(['id', 'name', 'price', 'billingInterval', 'features']) - data_item.keys()
                if data_item__missing_keys:
                    raise Unfit
                data_item_keys = set(data_item.keys())
                if 'id' in data_item_keys:
                    data_item_keys.remove('id')
                    data_item__id = data_item['id']
                    word(data_item__id)
                if 'name' in data_item_keys:
                    data_item_keys.remove('name')
                    data_item__name = data_item['name']
                    word(data_item__name)
                if 'description' in data_item_keys:
                    data_item_keys.remove('description')
                    data_item__description = data_item['description']
                    text(data_item__description)
                if 'price' in data_item_keys:
                    data_item_keys.remove('price')
                    data_item__price = data_item['price']
                    count(data_item__price)
                if 'currency' in data_item_keys:
                    data_item_keys.remove('currency')
                    data_item__currency = data_item['currency']
                    word(data_item__currency)
                if 'billingInterval' in data_item_keys:
                    data_item_keys.remove('billingInterval')
                    data_item__billingInterval = data_item['billingInterval']
                    word(data_item__billingInterval)
                if 'features' in data_item_keys:
                    data_item_keys.remove('features')
                    data_item__features = data_item['features']
                    if not isinstance(data_item__features, list):
                        raise Unfit
                    data_item__features_is_list = isinstance(data_item__features, list)
                    if data_item__features_is_list:
                        data_item__features_len = len(data_item__features)
                        for data_item__features_x, data_item__features_item in enumerate(data_item__features):
                            word(data_item__features_item)
                if 'maxUsers' in data_item_keys:
                    data_item_keys.remove('maxUsers')
                    data_item__maxUsers = data_item['maxUsers']
                    limit(data_item__maxUsers)
                if 'maxConversations' in data_item_keys:
                    data_item_keys.remove('maxConversations')
                    data_item__maxConversations = data_item['maxConversations']
                    limit(data_item__maxConversations)
                if 'storageLimit' in data_item_keys:
                    data_item_keys.remove('storageLimit')
                    data_item__storageLimit = data_item['storageLimit']
                    limit(data_item__storageLimit)
                if 'isActive' in data_item_keys:
                    data_item_keys.remove('isActive')
                    data_item__isActive = data_item['isActive']
                    if not isinstance(data_item__isActive, bool):
                        raise Unfit
                if 'stripeProductId' in data_item_keys:
                    data_item_keys.remove('stripeProductId')
                    data_item__stripeProductId = data_item['stripeProductId']
                    text(data_item__stripeProductId)
                if 'stripePriceId' in data_item_keys:
                    data_item_keys.remove('stripePriceId')
                    data_item__stripePriceId = data_item['stripePriceId']
                    text(data_item__stripePriceId)

def limit(data: Any) -> None:
    if not isinstance(data, (int, NoneType)) and (not (isinstance(data, float) and data.is_integer())) or isinstance(data, bool):
        raise Unfit
    if isinstance(data, (int, float)) and (not isinstance(data, bool)):
        if data < 0:
            raise Unfit
        if data > 2147483647:
            raise Unfit

def count(data: Any) -> None:
    if not isinstance(data, int) and (not (isinstance(data, float) and data.is_integer())) or isinstance(data, bool):
        raise Unfit
    if isinstance(data, (int, float)) and (not isinstance(data, bool)):
        if data < 0:
            raise Unfit
        if data > 2147483647:
            raise Unfit

def text(data: Any) -> None:
    if not (is_text(data) or isinstance(data, NoneType)):
        raise Unfit
    if isinstance(data, str):
        if not matches('^[^\\u0000]*$', data):
            raise Unfit

def word(data: Any) -> None:
    if not is_text(data):
        raise Unfit
    if isinstance(data, str):
        if not matches('^[^\\u0000]+$', data):
            raise Unfit
